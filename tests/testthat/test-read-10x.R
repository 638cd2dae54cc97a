skip_without_backend()

bed <- data.frame(chr = c("chr1", "chr1", "chr2_alt", "chrX"), start = c(9801L, 180592L, 0L, 7L), end = c(10669L, 181563L, 5L, 90L))
bed_names <- c("chr1:9801-10669", "chr1:180592-181563", "chr2_alt:0-5", "chrX:7-90")
barcodes <- c("AAAC-1", "AAAG-1", "AACC-2", "AACG-2", "AACT-2")

# Features x barcodes; the third cell is empty, and even counts dominate.
reads <- function(n) {
  x <- matrix(rep_len(c(2, 0, 1, 4, 2, 0, 0, 3), n * length(barcodes)), n)
  x[, 3] <- 0
  as_sparse(x)
}

write_table <- function(rows, file) {
  write.table(rows, file, sep = "\t", quote = FALSE, row.names = FALSE, col.names = FALSE, na = "")
}

write_10x <- function(counts, table, rows, env = parent.frame()) {
  folder <- withr::local_tempdir(.local_envir = env)
  suppressMessages(Matrix::writeMM(counts, file.path(folder, "matrix.mtx")))
  write_table(rows, file.path(folder, table))
  writeLines(barcodes, file.path(folder, "barcodes.tsv"))
  folder
}

atac_folder <- function(env = parent.frame()) write_10x(reads(4), "peaks.bed", bed, env)

genes <- data.frame(ID = c("ENSG1", "ENSG2"), name = c("CD4", "CD8A"), modality = "Gene Expression",
                    chr = c("chr12", NA), start = c(5L, NA), end = c(80L, NA))
multiome_folder <- function(env = parent.frame()) {
  peaks <- cbind(data.frame(ID = bed_names, name = bed_names, modality = "Peaks"), bed)
  write_10x(reads(6), "features.tsv", rbind(peaks, genes), env)
}

named <- function(x, rows) matrix(as.numeric(as.matrix(x)), nrow(x), dimnames = list(rows, barcodes))

test_that("peaks become an assay with their places", {
  skip_if_not_installed("SeuratObject")
  local_value("has_signac", function() FALSE)
  object <- read_10x_atac(atac_folder())
  expect_identical(SeuratObject::Assays(object), "peaks")
  cells <- read_cells(object)
  expect_equal(as.matrix(cells$counts), named(reads(4), gsub("_", "-", bed_names)))
  expect_identical(object$batch_id, setNames(c(1L, 1L, 2L, 2L, 2L), barcodes))
  known <- object[["peaks"]][[]]
  expect_equal(as.character(known$chr), bed$chr)
  expect_equal(known[c("start", "end")], bed[c("start", "end")], ignore_attr = TRUE)
})

test_that("genes and peaks become two assays", {
  skip_if_not_installed("SeuratObject")
  local_value("has_signac", function() FALSE)
  object <- read_10x_multiome(multiome_folder(), assay = "ATAC")
  expect_identical(SeuratObject::Assays(object), c("RNA", "ATAC"))
  expect_identical(SeuratObject::DefaultAssay(object), "RNA")
  expect_equal(as.matrix(read_cells(object)$counts), named(reads(6)[5:6, ], c("CD4", "CD8A")))
  expect_equal(as.matrix(read_cells(object, "ATAC")$counts), named(reads(6)[1:4, ], gsub("_", "-", bed_names)))
  expect_equal(object[["RNA"]][[]]$ID, genes$ID)
  expect_equal(object[["RNA"]][[]]$start, genes$start)
  expect_equal(object[["ATAC"]][[]]$end, bed$end)
})

test_that("peaks become ranges, which count from one", {
  skip_if_not_installed("SingleCellExperiment")
  object <- read_10x_atac(atac_folder(), as = "sce")
  expect_equal(as.matrix(SingleCellExperiment::counts(object)), named(reads(4), bed_names))
  ranges <- SummarizedExperiment::rowRanges(object)
  expect_identical(as.character(GenomicRanges::seqnames(ranges)), bed$chr)
  expect_identical(GenomicRanges::start(ranges), bed$start + 1L)
  expect_identical(GenomicRanges::end(ranges), bed$end)
  expect_identical(object$batch_id, c(1L, 1L, 2L, 2L, 2L))
  expect_identical(names_of(as_anndata(object)$var_names), bed_names)
})

test_that("peaks of a multiome are an alternative experiment", {
  skip_if_not_installed("SingleCellExperiment")
  object <- read_10x_multiome(multiome_folder(), as = "sce")
  expect_equal(as.matrix(SingleCellExperiment::counts(object)), named(reads(6)[5:6, ], c("CD4", "CD8A")))
  about <- as.data.frame(SummarizedExperiment::rowData(object))
  expect_equal(about$ID, genes$ID)
  expect_equal(about$end, genes$end)
  expect_identical(SingleCellExperiment::mainExpName(object), "RNA")
  peaks <- SingleCellExperiment::altExp(object, "peaks")
  expect_equal(as.matrix(SingleCellExperiment::counts(peaks)), named(reads(6)[1:4, ], bed_names))
  expect_identical(GenomicRanges::start(SummarizedExperiment::rowRanges(peaks)), bed$start + 1L)
})

test_that("Python's AnnData comes as it is", {
  adata <- read_10x_multiome(multiome_folder(), as = "anndata")
  expect_identical(names_of(adata$var_names), c("CD4", "CD8A", bed_names))
  expect_named(from_pandas(adata$var), c("ID", "modality", "chr", "start", "end"))
})

test_that("errors say what came, what is allowed and what to do", {
  folder <- atac_folder()
  expect_error(read_10x_atac(folder, as = "surat"), "one of 'seurat', 'sce', 'anndata'.*Did you mean 'seurat'",
               class = "scelbo_argument_error")
  expect_error(read_10x_atac("nowhere"), "no file or folder 'nowhere'.*filtered_peak_bc_matrix", class = "scelbo_data_error")
  expect_error(read_10x_multiome(folder), "no features.tsv.*it holds barcodes.tsv", class = "scelbo_data_error")
  write_table(transform(bed, end = c(10669, 5, 5, 90)), file.path(folder, "peaks.bed"))
  expect_error(read_10x_atac(folder), "feature 2 of 4 is no peak.*'chr1', '180592', '5'", class = "scelbo_data_error")
  expect_error(reads_to_fragments(mtcars), "class data.frame", class = "scelbo_setup_error")
})

test_that("peaks are Signac's where it is installed", {
  skip_if_not_installed("Signac")
  object <- suppressWarnings(read_10x_atac(atac_folder())) # Seurat's, of "_" in a name
  expect_s4_class(object[["peaks"]], "ChromatinAssay")
  expect_equal(as.matrix(read_cells(object)$counts), named(reads(4), gsub("[:_]", "-", bed_names)))
  expect_equal(object[["peaks"]][[]]$start, bed$start)
  expect_s4_class(reads_to_fragments(object)[["fragments"]], "ChromatinAssay")
})

# What Signac's class is to this package: an Assay that knows more.
chromatin_object <- function() {
  skip_if_not_installed("SeuratObject")
  setClass("ChromatinLike", contains = structure("Assay", package = "SeuratObject"), slots = c(ranges = "character"),
           where = globalenv())
  counts <- reads(4)
  dimnames(counts) <- list(paste0("chr1-", 1:4, "-9"), barcodes)
  assay <- as(SeuratObject::CreateAssayObject(counts = counts), "ChromatinLike")
  assay@ranges <- bed_names
  suppressWarnings(SeuratObject::CreateSeuratObject(assay, assay = "peaks"))
}

test_that("an assay of a class that contains Seurat's is read, and copied with what it knows", {
  object <- chromatin_object()
  rows <- paste0("chr1-", 1:4, "-9")
  expect_s4_class(object[["peaks"]], "ChromatinLike")
  expect_equal(t(as.matrix(reticulate::py_to_r(as_anndata(object)$X$toarray()))), unname(as.matrix(reads(4))))
  done <- reads_to_fragments(object)
  expect_s4_class(done[["fragments"]], "ChromatinLike")
  expect_identical(done[["fragments"]]@ranges, bed_names)
  expect_equal(as.matrix(read_cells(done, "fragments")$counts), named(ceiling(reads(4) / 2), rows))
  expect_equal(as.matrix(read_cells(done, "fragments", "data")$counts), named(ceiling(reads(4) / 2), rows))
})

test_that("fragments stand beside the reads of a Seurat object", {
  skip_if_not_installed("SeuratObject")
  local_value("has_signac", function() FALSE)
  object <- read_10x_atac(atac_folder())
  done <- reads_to_fragments(object)
  expect_equal(read_cells(done)$counts, read_cells(object)$counts)
  v5 <- inherits(object[["peaks"]], "StdAssay")
  fragments <- if (v5) read_cells(done, layer = "fragments") else read_cells(done, "fragments")
  expect_equal(as.matrix(fragments$counts), named(ceiling(reads(4) / 2), gsub("_", "-", bed_names)))
  if (!v5) expect_equal(done[["fragments"]][[]], done[["peaks"]][[]])
  expect_error(reads_to_fragments(object, name = "peaks"), "where the reads are", class = "scelbo_argument_error")
})

test_that("fragments stand beside the reads of a SingleCellExperiment and of an AnnData", {
  skip_if_not_installed("SingleCellExperiment")
  sce <- read_10x_atac(atac_folder(), as = "sce")
  done <- reads_to_fragments(sce)
  expect_identical(SummarizedExperiment::assay(done, "counts"), SummarizedExperiment::assay(sce, "counts"))
  expect_equal(as.matrix(SummarizedExperiment::assay(done, "fragments")), named(ceiling(reads(4) / 2), bed_names))
  suppressMessages({ # of Matrix, where there are no names
    dimnames(sce) <- NULL
    unnamed <- as.matrix(SummarizedExperiment::assay(reads_to_fragments(sce, name = "halved"), "halved"))
  })
  expect_equal(unnamed, unname(as.matrix(ceiling(reads(4) / 2))))
  expect_error(reads_to_fragments(sce, name = "counts"), "where the reads are", class = "scelbo_argument_error")

  adata <- reads_to_fragments(read_10x_atac(atac_folder(), as = "anndata"))
  expect_error(reads_to_fragments(adata, layer = "fragments"), "where the reads are", class = "scelbo_argument_error")
  expect_equal(t(reticulate::py_to_r(adata$layers[["fragments"]]$toarray())), unname(as.matrix(ceiling(reads(4) / 2))))
})

test_that("genes in one object with peaks keep their counts", {
  skip_if_not_installed("SingleCellExperiment")
  sce <- as_sce(read_10x_multiome(multiome_folder(), as = "anndata"))
  done <- as.matrix(SummarizedExperiment::assay(reads_to_fragments(sce), "fragments"))
  expect_equal(done, named(rbind(reads(6)[5:6, ], ceiling(reads(6)[1:4, ] / 2)), rownames(sce)))
})

test_that("fragments are not halved again", {
  skip_if_not_installed("SingleCellExperiment")
  sce <- reads_to_fragments(read_10x_atac(atac_folder(), as = "sce"))
  SummarizedExperiment::assay(sce, "ones") <- 1 * (SummarizedExperiment::assay(sce, "counts") > 0)
  expect_error(reads_to_fragments(sce, "ones"), "look like fragments already", class = "scelbo_data_error")
})
