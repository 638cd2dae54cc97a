# How all pictures look: the one place of their colours and axes (in Python: scelbo/pl/style.py, the same values).

# Hues that people with any colour vision tell apart (Okabe and Ito 2008). More groups than hues get darker ones, then lighter.
hues <- c("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
ink <- c(first = hues[[1]], second = hues[[2]], muted = "grey70", faint = "grey90", text = "grey20")

# A colour for each of these names.
colours_of <- function(names) {
  towards <- function(end) grDevices::rgb(t((grDevices::col2rgb(hues) + end) %/% 2), maxColorValue = 255)
  setNames(rep_len(c(hues, towards(0), towards(255)), length(names)), names)
}

theme_scelbo <- function(...) {
  ggplot2::theme_minimal() +
    ggplot2::theme(
      panel.grid.minor = ggplot2::element_blank(), plot.title = ggplot2::element_text(face = "bold"),
      plot.subtitle = ggplot2::element_text(colour = ink[["text"]]), strip.text = ggplot2::element_text(hjust = 0), ...
    )
}

# Scales of numbers (on both sides of zero: which side), of shares, of probabilities.
scale_numbers <- function(values) {
  if (any(values < 0, na.rm = TRUE) && any(values > 0, na.rm = TRUE)) {
    return(ggplot2::scale_colour_gradient2(low = ink[["first"]], mid = ink[["faint"]], high = ink[["second"]], na.value = ink[["faint"]]))
  }
  ggplot2::scale_colour_viridis_c(na.value = ink[["faint"]])
}

scale_shares <- function(name = "share") {
  ggplot2::scale_fill_gradientn(name, limits = c(0, NA),
                                colours = c("grey93", grDevices::hcl.colors(9, "YlOrRd", rev = TRUE)[-1]))
}

scale_probability <- function(name) {
  ggplot2::scale_colour_gradient(name, low = ink[["muted"]], high = ink[["second"]], limits = c(0, 1))
}

in_percent <- function(x) paste0(round(100 * x, 1), " %")

need_ggplot <- function() rlang::check_installed("ggplot2", reason = "to plot.")

# An order in which no group is drawn over the next, without a random number: steps of the golden ratio.
scattered <- function(n) order((seq_len(n) * (sqrt(5) - 1) / 2) %% 1)

# Names at places, a data.frame of x, y, name. They step aside where ggrepel is installed; else, of points, some are left out.
name_places <- function(at, size = 3.4, above = FALSE) {
  what <- ggplot2::aes(.data$x, .data$y, label = .data$name)
  if (!installed("ggrepel")) {
    return(ggplot2::geom_text(what, at, inherit.aes = FALSE, size = size, vjust = if (above) -0.6 else 0.5,
                              hjust = if (above) "inward" else 0.5, check_overlap = above))
  }
  ggrepel::geom_text_repel(what, at, inherit.aes = FALSE, size = size, bg.colour = "white", bg.r = 0.15, seed = 1,
                           point.size = if (above) 1 else NA, max.overlaps = Inf, box.padding = if (above) 0.25 else 0.1,
                           min.segment.length = if (above) 0.2 else 1, segment.colour = ink[["muted"]])
}

# Features in the order of values within each panel: an axis sorts by these, and `labels = bare` shows the names.
within_panel <- function(feature, panel, value) {
  name <- paste(feature, panel, sep = "\u00a7")
  factor(name, unique(name[order(value)]))
}
bare <- function(x) sub("\u00a7.*", "", x)

# What a question returned, as a table that plot() and autoplot() know how to draw.
drawable <- function(table, kind) structure(table, class = c(paste0("scelbo_", kind), class(table)))
