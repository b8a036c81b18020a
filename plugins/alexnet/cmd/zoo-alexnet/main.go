// Command zoo-alexnet is the plugin of the alexnet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/alexnet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(alexnet.Family()) }
