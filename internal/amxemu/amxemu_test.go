//go:build linux && amd64

package main

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
)

// role tells a process that the test starts what to do: "trace", then "compute".
const role = "AMXEMU_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "trace":
		runtime.LockOSThread()
		os.Setenv(role, "compute")
		status, err := run("/proc/self/exe", os.Args)
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			status = 2
		}
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// TestDecodedAsByADisassembler has code that GNU as 2.40 made.
func TestDecodedAsByADisassembler(t *testing.T) {
	for code, want := range map[string]instruction{
		"c4e2784907":           {op: loadConfig, length: 5, base: 7, index: none},                           // ldtilecfg (%rdi)
		"c4c278490424":         {op: loadConfig, length: 6, base: 12, index: none},                          // ldtilecfg (%r12)
		"c4c278494500":         {op: loadConfig, length: 6, base: 13, index: none},                          // ldtilecfg (%r13)
		"c4e27849c0":           {op: release, length: 5},                                                    // tilerelease
		"c4e27b49e8":           {op: zero, length: 5, tile: 5},                                              // tilezero %tmm5
		"c4a27b4b2408":         {op: load, length: 6, tile: 4, base: 0, index: 9},                           // tileloadd (%rax,%r9,1),%tmm4
		"c4c27b4bbc1400040000": {op: load, length: 10, tile: 7, base: 12, index: 2, displaced: 0x400},       // tileloadd 0x400(%r12,%rdx,1),%tmm7
		"c4827b4b740d00":       {op: load, length: 7, tile: 6, base: 13, index: 9},                          // tileloadd (%r13,%r9,1),%tmm6
		"c4e27a4b9c0640080000": {op: store, length: 10, tile: 3, base: 6, index: 0, displaced: 0x840},       // tilestored %tmm3,0x840(%rsi,%rax,1)
		"c4e27b4b4c7bc0":       {op: load, length: 7, tile: 1, base: 3, index: 7, shift: 1, displaced: -64}, // tileloadd -0x40(%rbx,%rdi,2),%tmm1
		"c4e24a5cc4":           {op: dot, length: 5, tile: 0, a: 4, b: 6},                                   // tdpbf16ps %tmm6,%tmm4,%tmm0
		"c4e2425cdd9090":       {op: dot, length: 5, tile: 3, a: 5, b: 7},                                   // tdpbf16ps %tmm7,%tmm5,%tmm3, and more
		"62f26e4852cb":         {},                                                                          // vdpbf16ps %zmm3,%zmm2,%zmm1
		"c4e27b4b":             {},
		"0f0b":                 {}, // ud2
	} {
		b, err := hex.DecodeString(code)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := decode(b)
		if ok != (want.length > 0) || ok && got != want {
			t.Errorf("%s: %+v, %v; want %+v", code, got, ok, want)
		}
	}
}

func skipUnlessCapable(t *testing.T) {
	t.Helper()
	if err := capable(); err != nil {
		t.Skip(err)
	}
}

// TestDotIsTheProductOfMatrices takes whole numbers, of which every sum is exact.
func TestDotIsTheProductOfMatrices(t *testing.T) {
	skipUnlessCapable(t)
	const rows, pairs, columns = 5, 7, 9
	config := [configLen]byte{0: 1}
	for i, size := range [][2]int{{rows, 4 * columns}, {rows, 4 * pairs}, {pairs, 4 * columns}} {
		config[48+i] = byte(size[0])
		binary.LittleEndian.PutUint16(config[16+2*i:], uint16(size[1]))
	}
	var s tiles
	if err := s.configure(config); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(x *tile) (values [tileRows][rowBytes / 2]float64) {
		for y := range x.rows {
			for n := range x.columns / 2 {
				v := float32(random.IntN(255) - 127)
				values[y][n] = float64(v)
				binary.LittleEndian.PutUint16(x.data[y][2*n:], uint16(math.Float32bits(v)>>16))
			}
		}
		return values
	}
	a, b := fill(&s.tile[1]), fill(&s.tile[2])
	for range 2 {
		if err := s.dot(0, 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	for m := range tileRows {
		for n := range rowBytes / 4 {
			want := 0.0
			for k := range pairs {
				want += 2 * (a[m][2*k]*b[k][2*n] + a[m][2*k+1]*b[k][2*n+1])
			}
			if got := math.Float32frombits(binary.LittleEndian.Uint32(s.tile[0].data[m][4*n:])); float64(got) != want {
				t.Fatalf("row %d, column %d: %v, want %v", m, n, got, want)
			}
		}
	}
	if s.dot(0, 2, 1) == nil || s.dot(0, 0, 2) == nil || s.dot(3, 1, 2) == nil {
		t.Error("tiles that do not fit are multiplied")
	}
	config[48] = 17
	if s.configure(config) == nil {
		t.Error("17 rows are taken")
	}
}

// TestProgramFindsTilesAndComputesInThem starts this test below the emulator, in a process with several threads.
func TestProgramFindsTilesAndComputesInThem(t *testing.T) {
	if os.Getenv(role) == "" {
		skipUnlessCapable(t)
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(exe, "-test.run=^TestProgramFindsTilesAndComputesInThem$", "-test.v")
		c.Env = append(os.Environ(), role+"=trace", cpu.Env+"=")
		out, err := c.CombinedOutput()
		if strings.Contains(string(out), unix.EPERM.Error()) {
			t.Skip("processes cannot be traced here: ptrace is forbidden, or this process is traced itself")
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if cpu.Best() != cpu.AMX {
		t.Fatalf("the tier is %v: %+v", cpu.Best(), cpu.Describe())
	}
	m, err := gemm.NewMultiplication(gemm.Product{M: 40, N: 50, K: 60, Tier: cpu.AMX, Precision: engine.Medium}, 2)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []float32)
	for range 2 {
		go func() {
			dst, a, b := make([]float32, 40*50), make([]float32, 40*60), make([]float32, 60*50)
			for i := range a {
				a[i] = float32(i%7 - 3)
			}
			for i := range b {
				b[i] = float32(i%5 - 2)
			}
			scratch := make([]byte, m.Scratch())
			for task := range m.Tasks() {
				m.Run(task, dst, a, b, scratch)
			}
			done <- dst
		}()
	}
	for range 2 {
		dst := <-done
		for i := range 40 {
			for j := range 50 {
				want := 0
				for k := range 60 {
					want += ((i*60+k)%7 - 3) * ((k*50+j)%5 - 2)
				}
				if dst[50*i+j] != float32(want) {
					t.Fatalf("row %d, column %d: %v, want %d", i, j, dst[50*i+j], want)
				}
			}
		}
	}
}
