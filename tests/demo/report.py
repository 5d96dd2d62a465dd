# SPDX-License-Identifier: Apache-2.0
"""stub"""
def summary_rows(story): return [("what",),("x",)]
def view_rows(story): return [("what",),("x",)]
def write(d, s, c): return d
