package cpu

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain prints what a child process with another ZOO_CPU detects.
func TestMain(m *testing.M) {
	if os.Getenv("ZOO_CPU_TEST_CHILD") != "" {
		msg := ""
		if err := Check(); err != nil {
			msg = err.Error()
		}
		os.Stdout.WriteString(Best().String() + "\n" + msg + "\n")
		return
	}
	os.Exit(m.Run())
}

func child(t *testing.T, value string) (tier, msg string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "ZOO_CPU_TEST_CHILD=1", Env+"="+value)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(string(out), "\n", 3)
	return lines[0], lines[1]
}

func TestEnvironmentLowersAndNeverRaises(t *testing.T) {
	hardware := detect().hardware
	for tier := Generic; tier <= AMX; tier++ {
		got, msg := child(t, tier.String())
		if want := min(tier, hardware).String(); got != want || msg != "" {
			t.Errorf("%s=%s: tier %s, error %q; want %s", Env, tier, got, msg, want)
		}
	}
}

func TestUnknownTierIsReported(t *testing.T) {
	got, msg := child(t, "sse9")
	if want := detect().hardware.String(); got != want {
		t.Errorf("tier %s, want %s", got, want)
	}
	if !strings.Contains(msg, "sse9") || !strings.Contains(msg, "avx512") {
		t.Errorf("error %q does not name the value and the choices", msg)
	}
}

func TestTierNamesRoundTrip(t *testing.T) {
	for tier := Generic; tier <= AMX; tier++ {
		got, err := ParseTier(tier.String())
		if err != nil || got != tier {
			t.Errorf("ParseTier(%q) = %v, %v", tier.String(), got, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	info := Describe()
	if info.Model == "" || info.Cores < 1 || info.Tier != Best().String() {
		t.Errorf("%+v", info)
	}
	if Best() == AMX && info.AMX != "" {
		t.Errorf("tier AMX though the tiles were refused: %s", info.AMX)
	}
	t.Logf("%+v", info)
}
