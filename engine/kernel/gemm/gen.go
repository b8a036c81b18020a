package gemm

//go:generate go -C ../_gen/gemm run . -out ../../gemm/gemm_amd64.s -pkg gemm
