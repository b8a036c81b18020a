//go:build !amd64 || noasm

package gemm

// copy copies one row of pixels from element e on.
func (st *stager) copy(to, e, blocks int) { st.copyRow(to, e, blocks) }
