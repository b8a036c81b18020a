// Package gemm computes what a network spends its time in: dense and grouped convolutions, linear layers and matrix
// products.
package gemm
