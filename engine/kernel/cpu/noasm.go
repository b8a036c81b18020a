//go:build noasm

package cpu

// haveAssembly is false in builds with the tag noasm.
const haveAssembly = false
