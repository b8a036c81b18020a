package clock

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32  = windows.NewLazySystemDLL("kernel32.dll")
	counter   = kernel32.NewProc("QueryPerformanceCounter")
	frequency = kernel32.NewProc("QueryPerformanceFrequency")

	perSecond = sync.OnceValue(func() int64 { return ask(frequency) })
	began     = ask(counter)
)

// ask calls one of the two functions, which cannot fail since Windows XP.
func ask(f *windows.LazyProc) (v int64) {
	_, _, _ = f.Call(uintptr(unsafe.Pointer(&v)))
	return v
}

func now() time.Duration {
	passed, second := ask(counter)-began, perSecond()
	return time.Duration(passed/second)*time.Second + time.Duration(passed%second)*time.Second/time.Duration(second)
}
