package cpu

import (
	"fmt"
	"sync"
	"syscall"
)

// From the Linux headers asm/prctl.h and Documentation/arch/x86/xstate.rst.
const (
	archReqXcompPerm = 0x1023 // arch_prctl: ask for an extended state component, for all threads of the process
	xfeatureTileData = 18     // the 8 KiB of AMX tile registers
)

// requestTiles asks Linux, once, to let this process use the AMX tile registers.
var requestTiles = sync.OnceValue(func() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, archReqXcompPerm, xfeatureTileData, 0); errno != 0 {
		return fmt.Errorf("the kernel refused the AMX tile registers (arch_prctl: %w): Linux 5.16 or later is needed, and no seccomp filter on arch_prctl", errno)
	}
	return nil
})
