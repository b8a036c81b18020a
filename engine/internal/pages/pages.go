// Package pages asks the system for large pages behind large buffers.
//
// Packed weights and feature maps are walked from one end to the other, many times a second. With pages of 4 KiB each step over a page's
// end costs a translation (two nested ones in a virtual machine) and stops the hardware's prefetching; with pages of 2 MiB a
// stream of weights that lies in the last cache is read about a third faster, and the first touch of fresh memory costs half.
//
// The advice outlives the buffer: the system goes on filling up the large pages of memory that Go has given back to it, and a process whose
// networks come and go would grow towards the most memory it ever had. So advice is taken back (Release) when a buffer is given up. For the same
// reason it is for large pages that the buffer fills alone: what shares one with it may be memory that Go has given back. A buffer loses 2 MiB
// at its ends by that, so what lives together had better lie in one.
//
// The functions only advise; contents and ownership do not change, and they are safe for concurrent use.
package pages

import "unsafe"

// Huge advises the system to back a buffer with large pages. Call it before the buffer is first written. It returns the buffer.
func Huge[T any](s []T) []T {
	return advised(s, huge)
}

// Release takes the advice back. The buffer keeps its contents and the pages that it has; call it just before the last use of the buffer is
// over.
func Release[T any](s []T) {
	advised(s, small)
}

func advised[T any](s []T, advice int) []T {
	advise(unsafe.Pointer(unsafe.SliceData(s)), len(s)*int(unsafe.Sizeof(*new(T))), advice)
	return s
}
