test_that("a formula is taken apart", {
  obs <- data.frame(batch = c("a", "b"), donor = factor(c("d", "e")), percent.mt = c(1, 2), `odd name` = c(TRUE, FALSE),
                    check.names = FALSE)
  find <- function(formula) find_columns(list(batch = formula, categorical = NULL, continuous = NULL), obs)
  expect_equal(find(~ batch + donor + percent.mt),
               list(batch = "batch", categorical = "donor", continuous = "percent.mt"))
  expect_equal(find(~ percent.mt + donor + `odd name`),
               list(batch = "donor", categorical = "odd name", continuous = "percent.mt"))
  expect_error(find(~ batch * donor), class = "scelbo_argument_error")
  expect_error(find(percent.mt ~ batch), class = "scelbo_argument_error")
  expect_error(find(~donr), "Did you mean 'donor'", class = "scelbo_setup_error")
})

test_that("columns are asked for by name, and all that are not there are told at once", {
  obs <- data.frame(batch = "a", donor = "b")
  expect_snapshot({
    said(find_columns(list(batch = "bach", categorical = c("donor", "sex")), obs))
    said(find_columns(list(batch = c(1, 2, 3)), obs))
  })
})

test_that("cells are chosen by names, positions or logicals", {
  names <- paste0("cell", 1:4)
  expect_null(cell_positions(NULL, names))
  expect_equal(cell_positions(c("cell3", "cell1"), names), c(2L, 0L))
  expect_equal(cell_positions(c(4, 1), names), c(3L, 0L))
  expect_equal(cell_positions(c(TRUE, FALSE, TRUE, FALSE), names), c(0L, 2L))
  expect_error(cell_positions(5, names), class = "scelbo_argument_error")
  expect_error(cell_positions("cel1", names), "Did you mean 'cell1'", class = "scelbo_setup_error")
})

test_that("numbers and logicals are categories as R writes them", {
  expect_equal(levels(as_category(c(10, 2, NA))), c("2", "10"))
  expect_equal(levels(as_category(c(TRUE, FALSE))), c("FALSE", "TRUE"))
})
