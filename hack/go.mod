module github.com/mizzen-mesh/mizzen/hack

go 1.26.0
