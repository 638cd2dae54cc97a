library(testthat)
library(scelbo)

test_check("scelbo")
