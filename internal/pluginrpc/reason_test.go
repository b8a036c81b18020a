package pluginrpc

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/weights"
)

// A newer plugin, or one of others, may name what this side does not know.
func TestUnknownReasonLeavesTheMessageAlone(t *testing.T) {
	st := status.New(codes.FailedPrecondition, "it will not do")
	for _, info := range []*errdetails.ErrorInfo{
		{Domain: reasonDomain, Reason: "MOON_IN_THE_WRONG_PHASE"},
		{Domain: "example.org", Reason: "WEIGHTS_MISMATCH"},
		{},
	} {
		st, err := st.WithDetails(info, &errdetails.Help{})
		if err != nil {
			t.Fatal(err)
		}
		if errs := Reasons(st); len(errs) > 0 || st.Message() != "it will not do" {
			t.Errorf("%v: %v, %q", info, errs, st.Message())
		}
	}
}

func TestReasonsAreThoseThatTheErrorWraps(t *testing.T) {
	err := fmt.Errorf("model: %w (%w)", weights.ErrFormat, fs.ErrNotExist)
	st := WithReasons(status.New(codes.FailedPrecondition, err.Error()), err)
	got := errors.Join(Reasons(st)...)
	for _, r := range reasons {
		if errors.Is(got, r.err) != errors.Is(err, r.err) {
			t.Errorf("%s: %v", r.name, got)
		}
	}
	if plain := WithReasons(status.New(codes.Internal, "x"), errors.New("x")); len(plain.Details()) > 0 {
		t.Error(plain.Details())
	}
}
