// Command zoo-senet is the plugin of the senet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/senet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(senet.Family()) }
