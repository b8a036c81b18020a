// Command zoo-efficientnet is the plugin of the efficientnet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/efficientnet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(efficientnet.Family()) }
