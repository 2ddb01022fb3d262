module github.com/mizzen-mesh/mizzen/hack/pause

go 1.26.0
