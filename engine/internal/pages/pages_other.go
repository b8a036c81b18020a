//go:build !linux

package pages

import "unsafe"

const huge, small = 0, 0

func advise(unsafe.Pointer, int, int) {}
