//go:build race

package guard

// Trials returns how many of n random trials to run: the race detector makes each ten to thirty times slower.
func Trials(n int) int { return (n + 9) / 10 }
