// Command zoo-resnet is the plugin of the resnet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/resnet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(resnet.Family()) }
