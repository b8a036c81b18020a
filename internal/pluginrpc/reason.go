package pluginrpc

import (
	"errors"
	"io/fs"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/weights"
)

// reasonDomain is the list of reasons that both sides mean. Names are only ever added to it; one that is unknown tells nothing.
const reasonDomain = "zoo.v1"

// reasons are the errors that callers tell apart with errors.Is and that happen in plugins, by the names that they cross the border with; see
// plugin.proto. Those of contexts are not among them: the caller's own context tells, not what a plugin says of it.
var reasons = []struct {
	name string
	err  error
}{
	{"WEIGHTS_MISMATCH", weights.ErrMismatch},
	{"WEIGHTS_FORMAT", weights.ErrFormat},
	{"WEIGHTS_REFUSED", weights.ErrRefused},
	{"IMAGE_FORMAT", vision.ErrFormat},
	{"IMAGE_TOO_LARGE", vision.ErrTooLarge},
	{"IMAGE_EMPTY", vision.ErrEmpty},
	{"RUN_EXISTS", finetune.ErrRunExists},
	{"FILE_NOT_FOUND", fs.ErrNotExist},
	{"FILE_PERMISSION", fs.ErrPermission},
}

// WithReasons returns the status with the names of those of the reasons that err wraps.
func WithReasons(st *status.Status, err error) *status.Status {
	var details []protoadapt.MessageV1
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			details = append(details, &errdetails.ErrorInfo{Domain: reasonDomain, Reason: r.name})
		}
	}
	if full, failed := st.WithDetails(details...); failed == nil {
		st = full
	}
	return st
}

// Reasons returns the errors that a status names.
func Reasons(st *status.Status) []error {
	var errs []error
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != reasonDomain {
			continue
		}
		for _, r := range reasons {
			if r.name == info.GetReason() {
				errs = append(errs, r.err)
			}
		}
	}
	return errs
}
