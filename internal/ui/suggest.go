package ui

import (
	"slices"
	"strings"
)

// Suggest returns up to three of the names that are nearest to a mistyped one, nearest first; none that is far off.
func Suggest(name string, names []string) []string {
	type near struct {
		name string
		d    int
	}
	name = strings.ToLower(name)
	var list []near
	for _, n := range names {
		d := distance(name, strings.ToLower(n))
		if strings.HasPrefix(n, name) || strings.ReplaceAll(n, "_", "") == strings.ReplaceAll(strings.ReplaceAll(name, "-", ""), "_", "") {
			d = min(d, 1)
		}
		if i := strings.LastIndexByte(n, '/'); i >= 0 { // at an address that was left out
			tagged := strings.ToLower(n[i+1:])
			short, _, _ := strings.Cut(tagged, ":")
			d = min(d, 1+min(distance(name, short), distance(name, tagged)))
		}
		if d <= 1+len(name)/4 {
			list = append(list, near{n, d})
		}
	}
	slices.SortFunc(list, func(a, b near) int {
		if a.d != b.d {
			return a.d - b.d
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, n := range list[:min(len(list), 3)] {
		out = append(out, n.name)
	}
	return out
}

// DidYouMean returns "; did you mean a or b?" for a mistyped name, or "".
func DidYouMean(name string, names []string) string {
	s := Suggest(name, names)
	if len(s) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(s, " or ") + "?"
}

// distance is the edit distance with transpositions of neighbours (optimal string alignment).
func distance(a, b string) int {
	two, one, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(one[j]+1, cur[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], two[j-2]+1)
			}
		}
		two, one, cur = one, cur, two
	}
	return one[len(b)]
}
