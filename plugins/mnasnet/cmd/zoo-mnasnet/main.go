// Command zoo-mnasnet is the plugin of the mnasnet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/mnasnet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(mnasnet.Family()) }
