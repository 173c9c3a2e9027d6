"""Where is p = ∇S = 0?"""
