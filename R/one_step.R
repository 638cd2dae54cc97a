# One step from object to object: construct, train, write back.
run_model <- function(constructor, object, arguments, name) {
  check_writable(object)
  write_back(fit_model(constructor, object, arguments), object, name = name)
}

# Arguments that the constructor (given by name, so that errors can tell it) does not know are train()'s; `verbose` may
# be both's.
fit_model <- function(constructor, object, arguments) {
  own <- setdiff(names(formals(constructor)), "...")
  in_training <- setdiff(names(formals(train.scelbo_model)), c("model", "..."))
  constructing <- names(arguments) %in% own
  if (constructor %in% names(constructors)) { # else train() itself says what it does not know
    known <- c(own, in_training, as.character(to_r(bridge()$arguments_of(core()[[constructors[[constructor]]]]$train))))
    check_names(names(arguments)[!constructing], setdiff(known, "self"), "argument", kind = "argument")
  }
  training <- !constructing | names(arguments) %in% in_training
  model <- eval(rlang::call2(constructor, object = quote(object), !!!arguments[constructing]))
  eval(rlang::call2("train", quote(model), !!!arguments[training]), list(model = model))
}

# scANVI on its own, or from a trained scVI, which may be in the object.
run_scanvi <- function(object, arguments, from, name) {
  if (is.null(from)) return(run_model("scanvi", object, arguments, name))
  arguments$scvi_model <- named_model(from, object)
  run_model("scanvi_from_scvi", object, arguments[lengths(arguments) > 0], name)
}

named_model <- function(model, object) if (is.character(model)) get_model(object, model) else model

# gimVI, whose object are the spatial cells, made with those of a reference.
run_gimvi <- function(object, reference, impute, arguments, name) {
  check_writable(object)
  write_back(fit_model("gimvi", reference, c(list(spatial = object), arguments)), object, name = name, features = impute)
}

# Solo, and first the scVI whose batches are the lanes, unless there is one. `arguments` are scVI's and train()'s; `pairs`
# solo()'s own, and those whose names begin with "classifier_".
run_solo <- function(object, arguments, scvi, pairs, solo_epochs, name) {
  check_writable(object)
  of_solo <- c("classifier_reads", paste0("classifier_", c("n_hidden", "n_layers", "dropout_rate")))
  own <- startsWith(names(arguments), "classifier_")
  check_names(names(arguments)[own], of_solo, "argument of Solo's classifier", kind = "argument")
  pairs <- c(pairs, setNames(arguments[own], sub("^classifier_(?!reads)", "", names(arguments)[own], perl = TRUE)))
  arguments <- arguments[!own]
  reference <- if (is.null(scvi)) fit_model("scvi", object, arguments) else named_model(scvi, object)
  check_scvi(reference)
  reference <- give_cells(reference, object)
  training <- arguments[names(arguments) %in% c("seed", "device", "threads", "verbose", "batch_size")]
  pairs$seed <- arguments$seed %||% 0
  model <- do.call(solo, c(list(reference, own_or(reference, object)), pairs))
  model <- do.call(train, c(list(model, max_epochs = solo_epochs), training))
  write_back(model, object, name = name)
}

# A model of spots, and first that of dissociated cells, unless `reference` is or holds one. Of the arguments those whose
# names begin with "reference_" are the latter's, and the general ones of training are both's.
run_spots <- function(constructor, object, reference, labels, arguments, name) {
  check_writable(object)
  of <- references[[constructors[[constructor]]]]
  own <- startsWith(names(arguments), "reference_")
  theirs <- setNames(arguments[own], sub("^reference_", "", names(arguments)[own]))
  arguments <- arguments[!own]
  if (is.null(labels) && length(theirs)) {
    abort_scelbo("argument", paste0("`", paste0("reference_", names(theirs)[[1]]), "` is of a reference that is trained here."),
                 "Give `labels`, the column of the cells' types; or leave it out, where `reference` is a trained model.")
  }
  if (!is.null(labels)) {
    both <- arguments[intersect(names(arguments), c("seed", "device", "threads", "verbose"))]
    reference <- fit_model(of, reference, c(list(labels = labels), utils::modifyList(both, theirs, keep.null = TRUE)))
  }
  write_back(fit_model(constructor, object, c(list(reference = reference), arguments)), object, name = name)
}
