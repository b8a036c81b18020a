package hub_test

const childEnv = "ZOO_HUB_TEST_CHILD"

func child() int { return 0 }
