//go:build !(linux && amd64)

package cpu

import "errors"

// requestTiles refuses: only the Linux way of asking for the AMX tile registers is known here.
func requestTiles() error {
	return errors.New("AMX tiles are used on Linux alone")
}
