// Package guard gives tests memory that catches kernels which touch what lies behind their buffers.
package guard
