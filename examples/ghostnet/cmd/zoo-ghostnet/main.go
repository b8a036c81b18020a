// Command zoo-ghostnet is the plugin of the ghostnet family. Put it into a folder that zoo looks for plugins in.
package main

import (
	"example.com/ghostnet"

	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(ghostnet.Family()) }
