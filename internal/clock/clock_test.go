package clock

import (
	"testing"
	"time"
)

func TestStepsAreFine(t *testing.T) {
	begin, last, steps := time.Now(), Now(), 0
	for steps < 100 && time.Since(begin) < time.Minute {
		now := Now()
		if now < last {
			t.Fatalf("%v after %v", now, last)
		}
		if now > last {
			steps++
		}
		last = now
	}
	begin = time.Now()
	start := Now()
	time.Sleep(200 * time.Millisecond)
	if passed, theirs := Now()-start, time.Since(begin); passed < 180*time.Millisecond || passed > theirs+20*time.Millisecond {
		t.Errorf("%v passed in %v", passed, theirs)
	}
	start = Now()
	for range 1000 {
		last = Now()
	}
	if last == start {
		t.Error("the clock stood still while it was read a thousand times")
	}
}
