# Progress: Python's output would bypass R (and knitr), so Python prints nothing and sends events instead,
# list(event = "start" | "step" | "end" | "message", task, done, total, metrics, ...), at most ten a second.

# Listens until close(); conclude() passes on what Python said, and says in one line how the training of a model went.
listen_to_progress <- function(verbose, frame = caller_env()) {
  force(frame) # later, inside a callback from Python, the caller would be another
  seen <- new.env(parent = emptyenv())
  seen$started <- Sys.time()
  draw <- verbose && !isTRUE(getOption("knitr.in.progress"))
  on_event <- function(event) {
    # An error in here would end the training, so nothing that is only shown may raise one.
    tryCatch(show_event(event, seen, verbose, draw, frame), error = function(cnd) NULL)
    NULL
  }
  bridge()$listen(reticulate::r_to_py(on_event, convert = TRUE))
  list(
    close = function() {
      bridge()$listen(NULL)
      if (!is.null(seen$bar)) cli::cli_progress_done(id = seen$bar, .envir = frame)
    },
    conclude = function(model = NULL) {
      if (verbose) for (line in c(seen$messages, if (!is.null(model)) closing_line(model, seen))) rlang::inform(line)
    }
  )
}

show_event <- function(event, seen, verbose, draw, frame) {
  switch(event$event,
    start = if (draw) seen$bar <- start_bar(event, frame),
    step = if (!is.null(seen$bar)) {
      shown <- list(metrics = format_metrics(head(event$metrics, 1))) # more would not fit into 80 columns
      cli::cli_progress_update(set = event$done, extra = shown, id = seen$bar, .envir = frame)
    },
    end = {
      seen$reason <- event$reason
      if (!is.null(seen$bar)) cli::cli_progress_done(id = seen$bar, .envir = frame)
      seen$bar <- NULL
    },
    message = seen$messages <- c(seen$messages, event$text) # told at the end: a handler must not leave through Python
  )
}

start_bar <- function(event, frame) {
  cli::cli_progress_bar(
    event$task, total = event$total, clear = TRUE, .auto_close = FALSE, .envir = frame, extra = list(metrics = ""),
    format = "{pb_name}{pb_bar} {pb_current}/{pb_total} | {pb_eta_str} | {pb_extra$metrics}"
  )
}

format_metrics <- function(metrics) {
  if (!length(metrics)) return("")
  paste(names(metrics), vapply(metrics, function(x) format(signif(x, 5)), ""), collapse = "  ")
}

closing_line <- function(model, seen) {
  history <- as.data.frame(model)
  last <- utils::tail(history[intersect(c("elbo_train", "elbo_validation"), names(history))], 1)
  paste0(
    model$class, " trained for ", nrow(history), " epochs in ", format(round(Sys.time() - seen$started, 1)),
    if (length(last)) paste0("; ", format_metrics(last))
  )
}
