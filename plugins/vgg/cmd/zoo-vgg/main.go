// Command zoo-vgg is the plugin of the vgg family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/vgg"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(vgg.Family()) }
