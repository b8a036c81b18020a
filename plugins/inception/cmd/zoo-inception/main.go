// Command zoo-inception is the plugin of the inception family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/inception"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(inception.Family()) }
