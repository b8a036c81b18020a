package work

import (
	"errors"
	"testing"
)

func TestQuotaOfOuterGroupBinds(t *testing.T) {
	for _, c := range []struct {
		name, groups string
		files        map[string]string
		want         float64
	}{
		{"no limit", "0::/a/b\n", map[string]string{"/sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 0},
		{"own limit", "0::/a/b\n", map[string]string{"/sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5},
		{"outer limit is smaller", "0::/a/b\n", map[string]string{
			"/sys/fs/cgroup/a/b/cpu.max": "400000 100000\n", "/sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, 2},
		{"version 1", "3:cpu,cpuacct:/x\n2:memory:/x\n", map[string]string{
			"/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000\n", "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n"}, 0.5},
		{"version 1 without limit", "3:cpu:/\n", map[string]string{
			"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 0},
		{"garbage", "x\n0::\n::::\n", map[string]string{"/sys/fs/cgroup/cpu.max": "1 0"}, 0},
	} {
		got := quotaOf([]byte(c.groups), func(name string) ([]byte, error) {
			if text, ok := c.files[name]; ok {
				return []byte(text), nil
			}
			return nil, errors.New("no such file")
		})
		if got != c.want {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
}
