package sdk

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
)

// invalid is an error that the user can mend; the host shows it as it is.
func invalid(format string, args ...any) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf(format, args...))
}

// wireError gives an error the status code that the contract asks for, and the reasons that callers tell apart.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, syscall.ENOMEM):
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	return pluginrpc.WithReasons(status.New(codes.FailedPrecondition, err.Error()), err).Err()
}
