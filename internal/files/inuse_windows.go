package files

import (
	"errors"

	"golang.org/x/sys/windows"
)

// InUse reports whether an error may be that of a file which another has open. The system says "access denied" too, as for want of rights.
func InUse(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}
