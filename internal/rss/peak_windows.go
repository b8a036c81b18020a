package rss

import (
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/sys/windows"
)

// memoryCounters is PROCESS_MEMORY_COUNTERS.
type memoryCounters struct {
	size, faults       uint32
	peakWorkingSet     uintptr
	workingSet         uintptr
	pools              [4]uintptr
	pagefile, peakFile uintptr
}

var memoryInfo = windows.NewLazySystemDLL("kernel32.dll").NewProc("K32GetProcessMemoryInfo")

func peak(process string) (int64, error) {
	handle := windows.CurrentProcess()
	if process != "self" {
		pid, err := strconv.ParseUint(process, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("peak memory of process %s: %w", process, err)
		}
		if handle, err = windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid)); err != nil {
			return 0, fmt.Errorf("peak memory of process %s: %w", process, err)
		}
		defer windows.CloseHandle(handle) // only asked
	}
	m := memoryCounters{size: uint32(unsafe.Sizeof(memoryCounters{}))}
	if ok, _, err := memoryInfo.Call(uintptr(handle), uintptr(unsafe.Pointer(&m)), uintptr(m.size)); ok == 0 {
		return 0, fmt.Errorf("peak memory of process %s: %w", process, err)
	}
	return int64(m.peakWorkingSet), nil
}
