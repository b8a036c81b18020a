// Command zoo-squeezenet is the plugin of the squeezenet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/squeezenet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(squeezenet.Family()) }
