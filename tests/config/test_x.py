def test_x():
    import proxy, sys
    print(proxy.__file__, sys.path[:4])
