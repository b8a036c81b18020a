package host

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// noProgram are what the system says of a file that is no program for it.
var noProgram = []error{windows.ERROR_BAD_EXE_FORMAT, windows.ERROR_EXE_MACHINE_TYPE_MISMATCH}

// group is the job that a plugin and its children belong to; 0 is none. The system kills them when the last handle of the job is closed, so also
// when this process ends in whatever way.
type group windows.Handle

// ownGroup has a Ctrl-C not reach the process.
func ownGroup(sys *syscall.SysProcAttr) { sys.CreationFlags |= windows.CREATE_NEW_PROCESS_GROUP }

// groupOf puts a process that was just started into a job. Children that it has already are not in it; it takes longer to start any.
func groupOf(p *os.Process) (group, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, os.NewSyscallError("CreateJobObject", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	err = os.NewSyscallError("SetInformationJobObject", err)
	if err == nil {
		handled := p.WithHandle(func(process uintptr) {
			err = os.NewSyscallError("AssignProcessToJobObject", windows.AssignProcessToJobObject(job, windows.Handle(process)))
		})
		err = errors.Join(err, handled)
	}
	if err != nil {
		return 0, errors.Join(err, windows.CloseHandle(job))
	}
	return group(job), nil
}

// kill kills who is in the group, which may be nobody.
func (g group) kill() {
	if g != 0 {
		_ = windows.TerminateJobObject(windows.Handle(g), 1)
	}
}

// close forgets the group, and kills who is in it.
func (g group) close() {
	if g != 0 {
		_ = windows.CloseHandle(windows.Handle(g)) // nothing can be done about it
	}
}
