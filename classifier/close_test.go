package classifier_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
)

// Some methods worked on a store that was closed, others failed in words of the layers below.
func TestEveryMethodOfAClosedClientSaysSo(t *testing.T) {
	c := open(t)
	m := untrained(t, c, classifier.LoadOptions{})
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Classify(t.Context(), pictures(t, 1), 1); !errors.Is(err, host.ErrClosed) {
		t.Errorf("Classify: %v", err)
	}
	for k := range c.Diagnose(t.Context()) {
		if k > 0 {
			t.Error("Diagnose goes on")
		}
	}
	v := reflect.ValueOf(c)
	for i := range v.NumMethod() {
		name, f := v.Type().Method(i).Name, v.Method(i)
		if name == "Close" || name == "Diagnose" {
			continue
		}
		in := make([]reflect.Value, 0, f.Type().NumIn())
		for j := range f.Type().NumIn() {
			switch a := f.Type().In(j); {
			case f.Type().IsVariadic() && j == f.Type().NumIn()-1:
			case a == reflect.TypeFor[context.Context]():
				in = append(in, reflect.ValueOf(t.Context()))
			default:
				in = append(in, reflect.Zero(a))
			}
		}
		out := f.Call(in)
		if err, _ := out[len(out)-1].Interface().(error); !errors.Is(err, host.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A download held up nobody but itself, and went on writing into a store that was closed.
func TestCloseEndsAPull(t *testing.T) {
	asked, forever := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-forever
	}))
	defer server.Close()
	defer close(forever)
	c, err := classifier.Open(classifier.Config{Hub: hub.Config{Home: t.TempDir(), PlainHTTP: true, Sources: []string{server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	pulled := make(chan error, 1)
	go func() {
		_, err := c.Pull(t.Context(), "resnet50")
		pulled <- err
	}()
	<-asked
	begin := time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-pulled:
		if !errors.Is(err, host.ErrClosed) {
			t.Errorf("%v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the pull goes on")
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("closing took %v", d)
	}
}
