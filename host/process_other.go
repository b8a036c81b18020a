//go:build !unix

package host

import "syscall"

func killGroup(int) {}

func ownGroup(*syscall.SysProcAttr) {}
