// Command zoo-mobilenet is the plugin of the mobilenet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/mobilenet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(mobilenet.Family()) }
