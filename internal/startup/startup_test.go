package startup

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestFirstCollectionPutsGOGCBack(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(123))
	LateCollection()
	if percent := debug.SetGCPercent(400); percent != 400 {
		t.Fatalf("GOGC is %d before the first collection", percent)
	}
	runtime.GC()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if percent := debug.SetGCPercent(400); percent == 123 {
			return
		} else if time.Now().After(end) {
			t.Fatalf("GOGC is %d after it", percent)
		}
	}
}

func TestGOGCOfTheUserIsLeft(t *testing.T) {
	t.Setenv("GOGC", "50")
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	LateCollection()
	if percent := debug.SetGCPercent(50); percent != 50 {
		t.Errorf("GOGC is %d", percent)
	}
}
