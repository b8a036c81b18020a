// Package plural writes counts as people say them.
package plural

import "strconv"

// Count returns "1 image" or "3 images": one is the noun for one, and many that for all other numbers.
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
