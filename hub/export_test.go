package hub

import "time"

// A registry on this machine answers at once.
func init() { minSettle = 200 * time.Millisecond }
