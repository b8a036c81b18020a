package work

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"
)

// quota returns how many processors' worth of time the cgroup of this process may use, 0 if there is no limit or none can
// be read. The Go runtime derives GOMAXPROCS from the same numbers but never goes below 2, and not at all if GOMAXPROCS is set.
func quota() float64 {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	return quotaOf(groups, os.ReadFile)
}

// quotaOf takes the text of /proc/self/cgroup. A limit of an outer group binds too, so the smallest one on the way to the root counts.
func quotaOf(groups []byte, read func(string) ([]byte, error)) float64 {
	least := 0.0
	limit := func(quota, period string) {
		q, err1 := strconv.ParseFloat(quota, 64)
		p, err2 := strconv.ParseFloat(period, 64)
		if err1 == nil && err2 == nil && q > 0 && p > 0 && (least == 0 || q/p < least) {
			least = q / p
		}
	}
	for line := range bytes.Lines(groups) {
		// hierarchy:controllers:path; version 2 has hierarchy 0 and no controllers.
		fields := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(fields) != 3 {
			continue
		}
		v2 := fields[0] == "0" && fields[1] == ""
		v1 := strings.Contains(","+fields[1]+",", ",cpu,")
		for dir := path.Clean("/" + fields[2]); v1 || v2; dir = path.Dir(dir) {
			if v2 {
				if max, err := read(path.Join("/sys/fs/cgroup", dir, "cpu.max")); err == nil {
					if f := strings.Fields(string(max)); len(f) == 2 {
						limit(f[0], f[1])
					}
				}
			} else {
				base := path.Join("/sys/fs/cgroup/cpu", dir)
				q, err1 := read(path.Join(base, "cpu.cfs_quota_us"))
				p, err2 := read(path.Join(base, "cpu.cfs_period_us"))
				if err1 == nil && err2 == nil {
					limit(strings.TrimSpace(string(q)), strings.TrimSpace(string(p)))
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
}
