skip_without_backend()

# Every cell of docs/capabilities.md that is R's, asked of a model that was trained for a moment.

markers <- list(A = c("gene0", "gene3", "gene9"), B = c("gene9", "gene12"), other = character())
wanted <- list(batch = "batch", batch_representation = "embedding", labels = "cell_type", fine_labels = "cell_type",
               unlabeled = "type3", n_latent = 4, n_hidden = 16, n_topics = 3, markers = markers,
               protein_assay = "protein_expression", augmentation = FALSE, verbose = FALSE)
asked <- list(
  differential_accessibility = list(group_by = "cell_type", group1 = "type0"),
  differential_expression = list(group_by = "cell_type", group1 = "type0"), get_expression_for_ct = list("type1"),
  get_feature_correlation_matrix = list(n_samples = 2), get_marginal_ll = list(n_mc_samples = 4),
  get_scale_for_ct = list("type1"), posterior_predictive_check = list(n_samples = 2), report = list(file = NULL)
)

# A row a question: the Python class, and R's function.
capabilities <- function() {
  page <- test_path("../../docs/capabilities.md")
  skip_if_not(file.exists(page), "docs/capabilities.md is not beside an installed package")
  lines <- readLines(page)
  model <- c("", sub("^## ", "", grep("^## ", lines, value = TRUE)))[1 + cumsum(startsWith(lines, "## "))]
  rows <- regmatches(lines, regexec("^\\| `[a-z_]+` .*\\| `([a-z_]+)\\(\\)` \\| x \\| x \\|$", lines))
  data.frame(model = model, question = vapply(rows, `[`, "", 2))[lengths(rows) > 0, ]
}

simulated_as <- function(convert, class) {
  simulate <- core()$data$simulate
  if (class %in% c("SpatialStereoscope", "DestVI")) return(convert(simulate$spots(40L, 80L, 40L, stored = 0.5)[[1]]))
  if (class == "MULTIVI") return(convert(simulate$multiome(120L, 40L, 60L, 4L)))
  convert(simulate$cite(120L, 40L, 5L))
}

# Of the main assay alone: Seurat 5 leaves no other without features.
some_features <- function(object) {
  if (inherits(object, "Seurat")) object <- Seurat::DietSeurat(object, assays = SeuratObject::DefaultAssay(object))
  object[1:20, ]
}

made_of <- function(class, object) {
  fit <- function(constructor, ...) {
    arguments <- c(list(...), wanted)
    arguments <- arguments[names(arguments) == "" | names(arguments) %in% names(formals(constructor))]
    train(do.call(constructor, arguments), max_epochs = 1, train_size = 0.7, seed = 1, verbose = FALSE)
  }
  constructor <- names(constructors)[constructors == class]
  if (class == "SOLO") return(fit("solo", fit("scvi", object)))
  if (class == "GIMVI") return(fit("gimvi", object[, 1:80], some_features(object)[, 81:120]))
  if (class %in% c("SpatialStereoscope", "DestVI")) {
    cells <- as_seurat(core()$data$simulate$spots(40L, 80L, 40L, stored = 0.5)[[0]])
    reference <- fit(c(SpatialStereoscope = "stereoscope_reference", DestVI = "condscvi")[[class]], cells)
    return(fit(constructor, object, reference))
  }
  fit(constructor, object)
}

answer_to <- function(question, model, object) {
  if (question == "differential_abundance") return(differential_abundance(model, "donor", object = object))
  if (question == "load_query_data") return(load_query_data(model, object, verbose = FALSE))
  arguments <- asked[[question]]
  if (question %in% c("transfer_labels", "get_mapping_score")) {
    reference <- model
    model <- train(load_query_data(reference, object, verbose = FALSE), max_epochs = 1, verbose = FALSE)
    arguments <- c(list(if (question == "transfer_labels") object else reference), if (question == "transfer_labels") "cell_type")
  }
  do.call(question, c(list(model), arguments))
}

for (dialect in c("Seurat", "SingleCellExperiment")) {
  for (class in setdiff(constructors, "")) {
    test_that(paste(class, "answers of a", dialect, "object all that docs/capabilities.md says"), {
      skip_if_not_installed(if (dialect == "Seurat") "SeuratObject" else dialect)
      questions <- with(capabilities(), question[model == class])
      expect_gt(length(questions), 0)
      object <- simulated_as(if (dialect == "Seurat") as_seurat else as_sce, class)
      model <- made_of(class, object)
      for (question in questions) {
        expect_gt(length(answer_to(question, model, object)), 0)
      }
    })
  }
}
