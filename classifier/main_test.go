package classifier_test

import (
	"os"
	"testing"

	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

func TestMain(m *testing.M) {
	sdk.ServeEmbedded(plugins.All)
	os.Exit(m.Run())
}
