//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From the Linux headers asm/prctl.h.
const (
	archReqXcompPerm = 0x1023
	xfeatureTileData = 18
)

// codeWindow is how many bytes of code are read at once: instructions that follow each other are done in one stop.
const codeWindow = 128

// process is a program's memory, as far as it was looked at.
type process struct {
	patched map[uint64]int           // where it detects the processor: the length of the instruction replaced
	runs    map[uint64][]instruction // decoded, by the address of the first
	asking  bool                     // it may yet ask for the tiles: its system calls are looked at
}

// thread is a thread that is traced.
type thread struct {
	id      int
	process *process
	tiles   tiles
	asked   bool // within the system call that asks for the tiles
}

// tracer runs a program and all that it starts.
type tracer struct {
	root      int
	threads   map[int]*thread
	processes map[int]*process
}

// run runs a program to its end and returns its exit status. The thread that calls it must be locked to its goroutine.
func run(path string, args []string) (status int, err error) {
	p, err := os.StartProcess(path, args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return 0, err
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &ws, unix.WALL, nil); err != nil { // it stops at the beginning of the program
		return 0, err
	}
	options := unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESYSGOOD
	if err := unix.PtraceSetOptions(p.Pid, options); err != nil {
		return 0, err
	}
	t := tracer{root: p.Pid, threads: make(map[int]*thread), processes: make(map[int]*process)}
	if err := t.begun(p.Pid); err != nil {
		return 0, err
	}
	if err := t.resume(t.threads[p.Pid], 0); err != nil {
		return 0, err
	}
	for {
		id, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case ws.Exited() || ws.Signaled():
			delete(t.threads, id)
			delete(t.processes, id)
			if id == t.root && ws.Signaled() {
				return 128 + int(ws.Signal()), nil
			} else if id == t.root {
				return ws.ExitStatus(), nil
			}
		case ws.Stopped():
			if err := t.stopped(id, ws); err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
				return 0, fmt.Errorf("thread %d: %w", id, err)
			}
		}
	}
}

// resume lets a thread go on, with a signal or 0.
func (t *tracer) resume(th *thread, signal unix.Signal) error {
	if th.process.asking {
		return unix.PtraceSyscall(th.id, int(signal))
	}
	return unix.PtraceCont(th.id, int(signal))
}

// stopped decides about a thread that stopped.
func (t *tracer) stopped(id int, ws unix.WaitStatus) error {
	th, ok := t.threads[id]
	if !ok { // it begins with a stop
		th = &thread{id: id}
		var err error
		if th.process, err = t.processOf(id); err != nil {
			return err
		}
		t.threads[id] = th
		if ws.StopSignal() == unix.SIGSTOP {
			return t.resume(th, 0)
		}
	}
	switch signal := ws.StopSignal(); {
	case signal == unix.SIGTRAP|0x80:
		return errors.Join(t.systemCall(th), t.resume(th, 0))
	case signal == unix.SIGTRAP && ws.TrapCause() == unix.PTRACE_EVENT_EXEC:
		delete(t.threads, id)
		return errors.Join(t.begun(id), t.resume(t.threads[id], 0))
	case signal == unix.SIGTRAP && ws.TrapCause() > 0:
		return t.resume(th, 0)
	case signal == unix.SIGILL:
		return t.undefined(th)
	default:
		return t.resume(th, signal)
	}
}

// begun is called when a process begins a program.
func (t *tracer) begun(id int) error {
	p := &process{runs: make(map[uint64][]instruction)}
	t.processes[id], t.threads[id] = p, &thread{id: id, process: p}
	path := fmt.Sprintf("/proc/%d/exe", id)
	var err error
	if p.patched, err = detection(path); err != nil {
		return err
	}
	for at := range p.patched {
		if _, err := unix.PtracePokeText(id, uintptr(at), []byte(codeUD2)); err != nil {
			return fmt.Errorf("code at %#x cannot be written: %w", at, err)
		}
	}
	p.asking = len(p.patched) > 0
	return nil
}

// processOf returns the process of a new thread. A forked one has its parent's memory.
func (t *tracer) processOf(id int) (*process, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
	if err != nil {
		return nil, unix.ESRCH
	}
	group, parent := field(status, "Tgid:"), field(status, "PPid:")
	if p, ok := t.processes[group]; ok {
		return p, nil
	}
	of, ok := t.processes[parent]
	if !ok {
		return nil, fmt.Errorf("process %d has no parent that is known", group)
	}
	p := &process{patched: of.patched, runs: maps.Clone(of.runs), asking: of.asking}
	t.processes[group] = p
	return p, nil
}

// field reads a number of /proc/PID/status; 0 if it is not there.
func field(status []byte, name string) int {
	_, rest, _ := strings.Cut(string(status), "\n"+name)
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

// systemCall answers the call that asks for the tiles, at its two stops: before the kernel sees it and after.
func (t *tracer) systemCall(th *thread) error {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(th.id, &r); err != nil {
		return err
	}
	switch {
	case th.asked:
		th.asked, th.process.asking = false, false
		r.Rax = 0
	case r.Orig_rax == unix.SYS_ARCH_PRCTL && r.Rdi == archReqXcompPerm && r.Rsi == xfeatureTileData:
		th.asked = true
		r.Orig_rax = ^uint64(0) // no call
	default:
		return nil
	}
	return unix.PtraceSetRegs(th.id, &r)
}

// undefined does what the instruction says that the processor does not know, and those of AMX that follow it.
func (t *tracer) undefined(th *thread) error {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(th.id, &r); err != nil {
		return err
	}
	begun := r.Rip
	if length, ok := th.process.patched[r.Rip]; ok {
		var a, b, c, d uint32
		if length == len(codeCPUID) {
			a, b, c, d = cpuid(uint32(r.Rax), uint32(r.Rcx))
			r.Rbx, r.Rcx = uint64(b), uint64(c)
		} else {
			a, d = xgetbv(uint32(r.Rcx))
		}
		r.Rax, r.Rdx = uint64(a), uint64(d)
		r.Rip += uint64(length)
	} else {
		code, err := th.code(r.Rip)
		if err != nil {
			return err
		}
		for _, i := range code {
			if err := th.execute(i, &r); err != nil {
				fmt.Fprintf(os.Stderr, "amxemu: AMX instruction at %#x (operation %d): %v\n", r.Rip, i.op, err)
				break
			}
			r.Rip += uint64(i.length)
		}
	}
	if r.Rip == begun { // the program's own fault
		return t.resume(th, unix.SIGILL)
	}
	return errors.Join(unix.PtraceSetRegs(th.id, &r), t.resume(th, 0))
}

// code returns the instructions of AMX that follow each other at an address.
func (th *thread) code(at uint64) ([]instruction, error) {
	if run, ok := th.process.runs[at]; ok {
		return run, nil
	}
	var window [codeWindow]byte
	n, err := unix.PtracePeekText(th.id, uintptr(at), window[:])
	if n == 0 {
		return nil, err
	}
	var run []instruction
	for rest := window[:n]; ; {
		i, ok := decode(rest)
		if !ok {
			break
		}
		run, rest = append(run, i), rest[i.length:]
	}
	th.process.runs[at] = run
	return run, nil
}

// execute does one instruction.
func (th *thread) execute(i instruction, r *unix.PtraceRegs) error {
	if i.op == release {
		th.tiles = tiles{}
		return nil
	}
	if i.op == dot {
		return th.tiles.dot(i.tile, i.a, i.b)
	}
	at := uint64(0)
	if i.op != zero {
		at = register(r, i.base) + uint64(i.displaced)
	}
	switch i.op {
	case loadConfig:
		var c [configLen]byte
		if err := th.transfer(unix.SYS_PROCESS_VM_READV, at, 0, [][]byte{c[:]}); err != nil {
			return err
		}
		return th.tiles.configure(c)
	case storeConfig:
		return th.transfer(unix.SYS_PROCESS_VM_WRITEV, at, 0, [][]byte{th.tiles.config[:]})
	}
	t, err := th.tiles.used(i.tile)
	if err != nil {
		return err
	}
	stride := uint64(0)
	if i.op != zero && i.index != none {
		stride = register(r, i.index) << i.shift
	}
	rows := make([][]byte, t.rows)
	for y := range rows {
		rows[y] = t.data[y][:t.columns]
	}
	switch i.op {
	case store:
		return th.transfer(unix.SYS_PROCESS_VM_WRITEV, at, stride, rows)
	case load:
		fresh := tile{rows: t.rows, columns: t.columns}
		for y := range rows {
			rows[y] = fresh.data[y][:t.columns]
		}
		if err := th.transfer(unix.SYS_PROCESS_VM_READV, at, stride, rows); err != nil {
			return err
		}
		*t = fresh
	default: // zero
		*t = tile{rows: t.rows, columns: t.columns}
	}
	return nil
}

// transfer reads rows of the thread's memory, or writes them.
func (th *thread) transfer(call uintptr, at, stride uint64, rows [][]byte) error {
	var local [tileRows]unix.Iovec
	var remote [tileRows]unix.RemoteIovec
	total := 0
	for y, row := range rows {
		local[y].Base = &row[0]
		local[y].SetLen(len(row))
		remote[y] = unix.RemoteIovec{Base: uintptr(at + uint64(y)*stride), Len: len(row)}
		total += len(row)
	}
	n, _, errno := unix.Syscall6(call, uintptr(th.id), uintptr(unsafe.Pointer(&local)), uintptr(len(rows)), uintptr(unsafe.Pointer(&remote)), uintptr(len(rows)), 0)
	if errno != 0 || int(n) != total {
		return fmt.Errorf("memory from %#x on, %d rows %d apart: %w", at, len(rows), int64(stride), errno)
	}
	return nil
}

// register reads a general register by its number.
func register(r *unix.PtraceRegs, number uint8) uint64 {
	return [...]uint64{r.Rax, r.Rcx, r.Rdx, r.Rbx, r.Rsp, r.Rbp, r.Rsi, r.Rdi, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15}[number]
}
