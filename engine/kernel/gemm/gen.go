package gemm

//go:generate go -C ../_gen/gemm run . -set tile -out ../../gemm/gemm_amd64.s -pkg gemm
//go:generate go -C ../_gen/gemm run . -set vector -out ../../gemm/vector_amd64.s -pkg gemm
//go:generate go -C ../_gen/gemm run . -set winograd -out ../../gemm/winograd_amd64.s -pkg gemm
