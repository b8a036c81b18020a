package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killable starts the program and returns it; the caller kills it or waits.
func killable(t *testing.T, home string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asZoo+"=1", "ZOO_HOME="+home, "ZOO_REGISTRY=", "NO_COLOR=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &stderr
}

// descendants lists the processes below a process.
func descendants(pid int) []int {
	var all []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, file := range tasks {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		for word := range strings.FieldsSeq(string(data)) {
			var child int
			if _, err := fmt.Sscan(word, &child); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

func TestTrainingSurvivesKillsOfHostPluginAndBoth(t *testing.T) {
	moments := 2
	if os.Getenv("ZOO_SOAK") != "" {
		moments = 20
	}
	home, data := t.TempDir(), photos(t, 10)
	args := func(out string, more ...string) []string {
		return append([]string{
			"train", "resnet20", "--data", data, "--epochs", "8", "--batch", "4", "--lr", "0.02", "--size", "32", "--checkpoint-seconds", "0.000001",
			"--mixup", "0.2", "--ema", "0.9", "--optimizer", "adamw", "--augment", "pad,flip", "--threads", "2", "--out", out,
		}, more...)
	}
	began := time.Now()
	must(t, home, args("whole")...)
	whole := time.Since(began)
	model := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(home, "runs", name, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want := model("whole")
	rng := rand.New(rand.NewPCG(1, 7))
	for _, victim := range []string{"plugin", "host", "both"} {
		for i := range moments {
			name := fmt.Sprintf("%s-%d", victim, i)
			cmd, _ := killable(t, home, args(name)...)
			time.Sleep(time.Duration(rng.Int64N(int64(whole))))
			victims := descendants(cmd.Process.Pid)
			if victim == "host" {
				victims = nil
			}
			if victim != "plugin" {
				victims = append(victims, cmd.Process.Pid)
			}
			for _, pid := range victims {
				// It may have ended by itself.
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err != nil { // a killed plugin is started again by the host, once
				must(t, home, args(name, "--resume")...)
			}
			if !bytes.Equal(model(name), want) {
				t.Errorf("%s killed: moment %d ends with other weights", victim, i)
			}
		}
	}
}
