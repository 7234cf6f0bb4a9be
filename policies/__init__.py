"""What may an operator change without a developer?

The documents of this folder, which are data: permissions and their cases today, plans beside them. The
package imports nothing; it exists so that `importlib.resources.files("policies")` finds them once installed.
"""
