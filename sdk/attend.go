package sdk

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// attendant answers the calls that come through the line until it is closed.
type attendant struct {
	line  *pluginrpc.Line // nil if there is none
	begin sync.Once
	ended chan struct{} // closed when it has ended; nil if it never began
}

// Attend implements zoov1.EngineServer: from now on calls of Infer are answered that come through the line.
func (s *server) Attend(context.Context, *zoov1.AttendRequest) (*zoov1.AttendResponse, error) {
	if s.attendant.line == nil {
		return nil, status.Error(codes.Unimplemented, pluginrpc.ErrNoLine.Error())
	}
	s.attendant.begin.Do(func() {
		s.attendant.ended = make(chan struct{})
		go func() { // ends with hangUp
			defer close(s.attendant.ended)
			if err := s.attendant.line.Attend(s.answer); err != nil {
				s.log.Error("the line to zoo is no longer attended", "error", err)
				s.closeLine() // so that zoo does not wait for an answer
			}
		}()
	})
	return &zoov1.AttendResponse{}, nil
}

// hangUp closes the line and waits for the call that is being answered. Attend is not called after it.
func (s *server) hangUp() {
	if s.attendant.line == nil {
		return
	}
	s.closeLine()
	s.attendant.begin.Do(func() {})
	if s.attendant.ended != nil {
		<-s.attendant.ended
	}
}

func (s *server) closeLine() {
	if err := s.attendant.line.Close(); err != nil {
		s.log.Warn("closing the line to zoo", "error", err)
	}
}

// answer makes the answer to a call that came through the line, as a call of Infer through gRPC would be answered. The reasons of an error are left out: those
// of pluginrpc happen before an inference.
func (s *server) answer(request []byte) (code uint32, response []byte) {
	response, err := s.inferBytes(context.Background(), request)
	if err != nil {
		st := status.Convert(wireError(err))
		return uint32(st.Code()), []byte(st.Message())
	}
	return uint32(codes.OK), response
}

func (s *server) inferBytes(ctx context.Context, request []byte) (response []byte, err error) {
	defer s.recover("Infer through the line", &err)
	var r zoov1.InferRequest
	if err := proto.Unmarshal(request, &r); err != nil {
		return nil, invalid("the request on the line: %v", err)
	}
	answer, err := s.Infer(ctx, &r)
	if err != nil {
		return nil, err
	}
	if response, err = proto.Marshal(answer); err != nil {
		return nil, err
	}
	if len(response) > pluginrpc.MaxLineMessage {
		return nil, invalid("an answer of %d bytes does not fit the %d of a line", len(response), pluginrpc.MaxLineMessage)
	}
	return response, nil
}
